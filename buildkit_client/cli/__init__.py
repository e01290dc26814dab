"""The command ``buildkit-client``, which takes what ``buildctl`` takes."""

"""How the documentation of the commands is written, and what is in it besides what the commands say of themselves."""

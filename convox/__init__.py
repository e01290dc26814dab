"""Convox's builds."""

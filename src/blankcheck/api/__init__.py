"""The Python face of the commands: audit, harden, certify; arguments and callbacks, no settings, no
terminal."""

"""The Python face of the commands: audit, harden, certify, gate, blend; arguments and callbacks, no
settings, and of a terminal only bars that a script asks for."""

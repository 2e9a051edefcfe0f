"""The control experiments of an audit."""

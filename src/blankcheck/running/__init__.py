"""Every side effect: settings, devices, run folder, terminal, pictures, report."""

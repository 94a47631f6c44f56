"""Kernels of the site's build: only errors, and nothing from the builder's own start-up files."""

c = get_config()
c.IPKernelApp.log_level = 40

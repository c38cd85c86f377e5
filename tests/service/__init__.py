"""The service of ``docs/service``: real requests over a real socket."""

"""`mohs.diagnose`: what is wrong with a run, or with what another library left."""

from mohs.doctor.diagnose import diagnose

__all__ = ["diagnose"]

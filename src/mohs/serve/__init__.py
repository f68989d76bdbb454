"""An index as a service with a page: what browsers and programs ask over HTTP."""

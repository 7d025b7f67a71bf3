"""At the city: receive, verify, receipt, archive, watch. May import logbook, sox, calibration, drivers (decode)."""

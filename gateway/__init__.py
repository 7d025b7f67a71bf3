"""On the truck: recorder, uplink, sweeper, clock, camera, positions. May import drivers, firmware (frames), logbook, sox, calibration."""

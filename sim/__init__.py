"""A truck without hardware: world, chips, buses, receiver, camera. May import logbook;
drives the other rooms from outside, as processes."""

"""Read by Python itself at the start of every process that has this folder in PYTHONPATH, and by those that it starts in turn."""

import uplink_faults_process

uplink_faults_process.take_over()

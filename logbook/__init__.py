"""What a truck writes down: the table of quantities, the segment file, the column block, recovery. Imports nothing of ours."""

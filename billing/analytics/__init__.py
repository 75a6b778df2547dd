"""Usage by every question that operators ask of it, summed in the background; docs/decisions/0031 says why."""

"""The benchmark of fastconv: speed, memory and start-up time beside a peer, with results compared first."""

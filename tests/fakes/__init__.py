"""Wire-level fake provider servers: real HTTP on a loopback port, speaking each vendor's own protocol."""

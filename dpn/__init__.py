"""What a preservation node can do; one folder a capability, none knows of stages or queues."""

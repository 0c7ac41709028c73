"""What the emulated services of the drivers' tests share: HTTP as it is on the wire, scripted faults, and a test's hold on all that."""

"""The lab: hosts on this machine that behave as servers do (systemd-nspawn over overlayfs).

machine   what this machine has and how it reaches the world
images    base images, each a stack of layers
network   a lab's bridge with NAT
host      one lab host: mount, boot, run commands, stop
lab       a lab: a fleet's hosts, from nothing to served and back to nothing
apply     Salt on a host, each state shown as it finishes
output    what the person at the terminal sees
cli       the commands
"""

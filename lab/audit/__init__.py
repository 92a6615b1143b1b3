"""The base of every host by figures: known auditors look at the lab's hosts, and one table says what they found."""

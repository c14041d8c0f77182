"""Every fault, in groups that run at the same time because they do not disturb each other."""

from faults import archive, availability, clients, database, hosts

GROUPS = (*archive.GROUPS, *availability.GROUPS, *database.GROUPS, *clients.GROUPS, *hosts.GROUPS)

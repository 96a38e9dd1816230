"""Where bags lie between being fetched and being stored: volumes, room promised on them, folders, quarantine.

Nothing lands on a volume without a reservation, nobody writes into a folder that another holds, and a volume
whose disk is not mounted is an error, never an empty volume.
"""

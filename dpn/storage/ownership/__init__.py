"""Whose store it is: nothing is put into a store, and nothing is said of a copy, unless it bears our marker.

An empty disk that is mounted in the place of a store looks like a store that has lost everything, and would take
new bags as readily. So each store has a marker: the node, the store's name, and an id that our database knows.
"""

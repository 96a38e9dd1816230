"""The recovery pipeline: a bag got back from another node: ask, fetch, judge, settle."""

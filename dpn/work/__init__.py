"""Work items: lifecycle (pure), claims and leases, dispatch, sweeps, queries, what an operator may do to them."""

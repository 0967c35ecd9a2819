"""Holds, settles and reports money: the ledger and the prices."""

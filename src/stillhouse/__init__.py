"""stillhouse: your own DeepInfra. Engine, gateway and ledger in one."""

__version__ = "0.2.0"

"""The namespace of the registered operators. A build for the Hub replaces this file by its own."""

import torch

NAMESPACE = "aiexplained"
ops = getattr(torch.ops, NAMESPACE)


def add_op_namespace_prefix(op_name: str) -> str:
    """The operator's full name, ``namespace::name``."""
    return f"{NAMESPACE}::{op_name}"

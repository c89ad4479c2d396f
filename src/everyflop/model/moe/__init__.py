"""Mixture of experts: router, dispatch, experts, and what keeps them in balance."""

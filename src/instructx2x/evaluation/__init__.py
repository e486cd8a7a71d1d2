"""Judging edited images, whoever made them."""

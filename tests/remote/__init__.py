"""Readers on other machines in trouble, case by case, each by its number.

Each ends in a typed error that says who, where and what to do, or in what the documentation
says; nothing is lost, and nothing is left behind.
"""

"""Answers that are given again: for tenants and models that an operator has opted in, and for nobody else.

`rules` says for whom, `wishes` what a client's headers ask for, `questions` which calls are the same, `entries` what is
kept of an answer, `store` keeps it in Redis, `flights` lets one of many identical calls be made, `cache` puts them
together, `hits` writes down what was not charged, `tallies` counts. `admin` is the operators' page.
"""

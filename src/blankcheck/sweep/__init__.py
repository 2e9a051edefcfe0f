"""Many hardenings: an Optuna study over the options of `harden`, several workers, and the front of
what they reached.

space      = read_space(base, search)           # checked at the door study      = open_study(where,
space, ...)      # Optuna: a journal file or a database supervise(study, job, workers)
# processes, each: claim a trial, harden, measure, tell write_pages(found, out)
# front, best, and why
"""

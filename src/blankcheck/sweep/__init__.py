"""Many hardenings: an Optuna study over the options of `harden`, and the front of what they reach.

space = read_space(base, search, HardenSettings)             # checked at the door
sweep(Job(settings, space, storage, out, HardenTrial), 2, look)
write_pages(results(open_study(job).trials, job), job, open_study(job), out)
"""

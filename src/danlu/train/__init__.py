"""One loop for every objective: batches, optimisers, schedules, budget, checkpoints, guard, watchers."""

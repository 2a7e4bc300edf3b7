"""Search settings: Optuna trials on grouped folds of the rows, with states computed once."""

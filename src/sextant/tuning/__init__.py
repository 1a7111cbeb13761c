"""Search better settings of a model on the parts train and val; the test part is never read.

space reads conf/search/, study keeps the trials with Optuna, training runs one of them, comparison
trains the best and today's settings with several seeds, figures draws, and writing puts the winner
into the conf.
"""

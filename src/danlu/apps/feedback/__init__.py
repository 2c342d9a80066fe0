"""What people prefer: pairs of answers, blind and in an order of chance, and the data set that the judgements become."""

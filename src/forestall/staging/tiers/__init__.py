"""Which disk lies on which storage: how often each is asked, what a move gains and costs, and the moves themselves."""

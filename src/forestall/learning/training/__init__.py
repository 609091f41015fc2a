"""Training of the recurrent model: the only part that needs torch (the extra ``train``)."""

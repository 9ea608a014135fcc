"""Commands that write documents and golden losses, measure (`bench`), compare with released code (`parity`), and test
locks (`kill_test`) and GPUs (`gpu`)."""

"""Texts to batches: the tokenizer, lengths, padding, answer letters, soft prompts."""

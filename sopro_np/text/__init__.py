"""Text normalisation: English as it is written -> English as it is spoken."""

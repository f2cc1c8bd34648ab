"""Servers in front of one model: a scheduler, HTTP as OpenAI's clients speak it, Wyoming. Needs the extra `server`."""

"""AMD ATOM and ATOMesh: prompts are read in one pool of engines, answers written in another."""

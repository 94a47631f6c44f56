"""Ternary Mamba."""

from aiexplained.concepts.ternary_mamba import training
from aiexplained.concepts.ternary_mamba.account import *
from aiexplained.concepts.ternary_mamba.fixes import *
from aiexplained.concepts.ternary_mamba.model import *
from aiexplained.concepts.ternary_mamba.ternary import *
from aiexplained.concepts.ternary_mamba.rounding import *
from aiexplained.concepts.ternary_mamba.measure import *
from aiexplained.concepts.ternary_mamba.perturb import *
from aiexplained.concepts.ternary_mamba.studies import STUDIES

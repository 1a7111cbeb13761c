"""One file per question that is asked of a model: its metrics, the columns of an answer, what val teaches beside.

METRICS names each metric with what is good: `up`, `down`, or a number that it should come near to, as coverage should
to 0.9. The first is the gate's; that one and what a schedule monitors are `up` or `down`.

A task may offer `verdict(answers, rows, encoder)`: what the metrics come to, in a sentence for the report.
"""

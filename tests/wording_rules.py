"""What no text for people may say."""

from __future__ import annotations

import re

# Words that frighten, promise too much, or name a disease. Questions and their topics may name what
# a person knows about themselves ("Have you ever had cancer?").
BANNED = re.compile(
    r"""bone[- ]on[- ]bone | wear\ and\ tear | \bwear(s|ing)?\b | \bworn\b | degenerat | damage |
    \bnormal | all\ clear | \bsafe(ly|ty)?\b | nothing\ wrong | out\ of\ place | misaligned |
    \bharmless\b | don't\ worry | no\ need\ to\ worry | \bdiagnos | arthritis | cauda | equina |
    \bslipped | hernia | \bdis[ck]s?\b | stenosis | sciatica | tumou?r | metast | sepsis |
    osteop | \bfracture | probab | per\ cent | \d\s*% | \bchance\b | \bmg\b | paracetamol
    """,
    re.IGNORECASE | re.VERBOSE,
)

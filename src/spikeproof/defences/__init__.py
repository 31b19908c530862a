"""The loss of one training step, one file a defence. A defence that attacks is given the attack; it imports none.

Defences combine by `base`: what adds a penalty or a hook is added to the training of another one, and looks at the
forwards that this one makes. {name: sr, base: {name: adversarial}} is adversarial training with SR on the attacked
images, and {name: rat, base: {name: sr, base: {name: adversarial}}} retracts the weights of that after every step.
"""

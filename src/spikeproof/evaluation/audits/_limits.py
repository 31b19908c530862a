"""Every threshold of every audit, in one place. They are judgement calls; the raw values stand beside each verdict.

Where a limit is a share of images, an audit is red when the lower end of the 95 % interval of the measured share lies
above it: one image of fifty is no evidence of one in a hundred. Limits of 0 are strict: one image is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Shares in [0,1] unless said. After Athalye et al. 2018, Carlini et al. 2019, AutoAttack, Pintor et al. 2022."""

    one_step_only: float = 0.01  # broken by one step and not by many
    black_box: float = 0.002  # broken by Square alone (AutoAttack's alarm)
    unbounded: float = 0.0  # surviving an attack that may do anything
    loss_rises: float = 0.9  # at least so many losses rise along the gradient, at the best step length
    beaten_by_random: float = 0.25  # images where the median of 10 random directions beats the gradient's
    no_gradient: float = 0.0  # images whose gradient is zero everywhere
    zero_share: float = 0.05  # zero pixels in the gradient of an image, above which they must be explained
    covered: float = 0.9  # at least so many pixels with a gradient at least once along an attack
    false_zero: float = 0.2  # loss that zero-gradient pixels can cause, of what as many others can
    dense_twin: float = 0.02  # broken only by the densest gradients of the same network
    more_effort: float = 0.005  # broken by twice the steps or more restarts
    surrogates: float = 0.05  # broken by some estimator and not by that of training
    transfer: float = 0.005  # broken by images made for another network
    random: float = 0.0  # broken by random corners alone
    plateau: float = 0.5  # identical logits after a random step of a grey level
    fidelity: float = 3.0  # at least so many standard errors above 0: correlation of gradient and finite steps
    logits_differ: float = 1e-4  # relative difference of two forwards of one input
    same_logits: float = 1e-6  # relative difference of the attacked and the deployed forward: kernels may round
    company: float = 0.02  # images whose answer depends on the batch they are in
    silent: float = 0.0  # adversarial on the way, not in the verdict
    unfinished: float = 0.5  # surviving images whose best loss still rose in the last quarter of the steps
    temperature: float = 0.005  # with a saturated loss, and broken only with the logits divided by 10 or 100
    domain: float = 0.0  # images whose code is not that of the picture that would be saved
    control: float = 0.99  # at least so many images of an undefended network broken
    accounting: float = 0.01  # broken by a weak attack and by none of the strong

package dev.toolkit.trainer.store

import kotlin.math.ceil

/** How thoroughly a text is learned, in passes over it. */
enum class Preset(val passes: Int) { LIGHT(1), NORMAL(3), THOROUGH(8) }

/** Settings of a run from the little a person has to say. */
object Presets {
    private const val RATE = 2e-4
    private const val CLIP = 1.0
    private const val MOST_AT_ONCE = 4

    /** Fewer steps than these in a pass learn little: short texts are learned a sequence at a time. */
    private const val STEPS_A_PASS = 25
    private const val PATIENCE = 3
    private const val SAVES_KEPT = 3
    private const val WARM_UP = 0.03

    /**
     * The learning rate to begin with. AdamW's moves a value by about the rate; lion's sign needs less, adalomo's rate counts in
     * sizes of a tensor, and a step of sgd and lomo is as large as the gradient.
     */
    fun rate(optimizer: String): Double = when (optimizer) {
        "lion" -> RATE / 4
        "adalomo" -> 100 * RATE
        "lomo", "sgd" -> 500 * RATE
        else -> RATE
    }

    fun settings(preset: Preset, data: DataSet): RunSettings {
        val together = (data.sequences / STEPS_A_PASS).coerceIn(1, MOST_AT_ONCE)
        val pass = ceil(data.sequences / together.toDouble())
        val steps = (preset.passes * pass).toInt().coerceAtLeast(1)
        val watched = data.hasValidation
        return RunSettings(
            steps = steps,
            learningRate = RATE,
            gradientAccumulation = together,
            schedule = "cosine",
            warmupSteps = (steps * WARM_UP).toInt(),
            maxGradNorm = CLIP,
            evalEvery = if (watched) ceil(pass / 2).toInt() else 0,
            patience = if (watched) PATIENCE else 0,
            keep = if (watched) "best" else "last",
            keepCheckpoints = SAVES_KEPT,
        )
    }
}

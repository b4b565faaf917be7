package dev.toolkit.trainer.policy

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words

/** When a run may go on; see the settings screen. */
data class PolicySettings(
    val onlyWhileCharging: Boolean = true,
    /** Percent; 0 is off. */
    val minimumBattery: Int = 20,
    /** Status of PowerManager from which a run waits: 2 moderate, 3 severe; 0 is off. */
    val thermalLimit: Int = THERMAL_MODERATE,
    /** Megabytes of memory that must be free; 0 is off. */
    val minimumFreeMb: Int = 300,
    /** 0: the phone's fast cores. */
    val threads: Int = 0,
    val continueAfterRestart: Boolean = true,
    /** The hours of the day when runs train; null is all. */
    val hours: Hours? = null,
) {
    companion object {
        const val THERMAL_MODERATE = 2
        const val THERMAL_SEVERE = 3
    }
}

/** The phone as the policy sees it; null where the phone does not say. */
data class Conditions(
    val charging: Boolean,
    val batteryLevel: Int?,
    val batteryCelsius: Float?,
    val thermalStatus: Int,
    val freeMb: Long,
    val totalMb: Long,
    val lowMemory: Boolean,
    /** Share of the way to throttling, 1 where it begins; null where the phone does not say. */
    val thermalHeadroom: Float? = null,
    /** By the clock on the wall. */
    val minuteOfDay: Int = 0,
) {
    // The generated one would name every field, also in the APK.
    override fun toString() = freeMb.toString()
}

/** What a run waits for, and the words for when that is over. */
enum class Hold(val over: Int) {
    HOURS(R.string.over_hours),
    CHARGER(R.string.over_charger),
    BATTERY(R.string.over_battery),
    THERMAL(R.string.over_thermal),
    MEMORY(R.string.over_memory),
}

/** A hold and its words, for the screen and the trace. */
data class Waiting(val hold: Hold, val text: String)

/** Decides whether a run must wait. Pure: everything it knows is passed in. */
object Policy {
    private const val BATTERY_MARGIN = 5

    /** Degrees Celsius at which chargers begin to slow down to spare the battery. */
    private const val HOTTEST_BATTERY = 42f
    private const val HEAT_MARGIN = 3f

    /** Of the forecast that is 1 where the phone becomes throttled. */
    private const val LEAST_HEADROOM = 0.95f
    private const val HEADROOM_MARGIN = 0.15f

    /**
     * Returns what to wait for, or null to train. What a run is [held] by must get clearly better before
     * it goes on, so that it does not stop and go at a limit.
     *
     * @param allowed what the user lets it train in spite of; heat is not up to anybody
     * @param needMb what the run will take of the free memory when it goes on; 0 while it has it already
     * @param killed whether its engine was ended from outside a short while ago: then memory counts whatever the settings say
     */
    fun decide(
        settings: PolicySettings, now: Conditions, held: Hold?, needMb: Long = 0, allowed: Set<Hold> = emptySet(), killed: Boolean = false,
    ): Waiting? = sequenceOf(
        { hours(settings, now) }, { charger(settings, now) }, { battery(settings, now, held) }, { heat(now, held) },
        { thermal(settings, now, held) }, { memory(settings, now, held, needMb, killed) },
    ).mapNotNull { it() }.firstOrNull { it.hold == Hold.THERMAL || it.hold !in allowed }

    private fun hours(settings: PolicySettings, now: Conditions): Waiting? {
        val hours = settings.hours?.takeUnless { it.include(now.minuteOfDay) } ?: return null
        return Waiting(Hold.HOURS, Words.of(R.string.wait_hours, hours.from / 60, hours.from % 60))
    }

    private fun charger(settings: PolicySettings, now: Conditions): Waiting? =
        if (settings.onlyWhileCharging && !now.charging) Waiting(Hold.CHARGER, Words.of(R.string.wait_charger)) else null

    private fun battery(settings: PolicySettings, now: Conditions, held: Hold?): Waiting? {
        val level = now.batteryLevel ?: return null
        if (settings.minimumBattery <= 0) return null
        val enough = (settings.minimumBattery + if (held == Hold.BATTERY) BATTERY_MARGIN else 0).coerceAtMost(100)
        if (level >= enough) return null
        val goesOn = (settings.minimumBattery + BATTERY_MARGIN).coerceAtMost(100)
        return Waiting(Hold.BATTERY, Words.of(R.string.wait_battery, level, goesOn))
    }

    /** The battery's own temperature: many phones report no thermal status, or always 0. */
    private fun heat(now: Conditions, held: Hold?): Waiting? {
        val celsius = now.batteryCelsius ?: return null
        val goesOn = HOTTEST_BATTERY - HEAT_MARGIN
        if (celsius < if (held == Hold.THERMAL) goesOn else HOTTEST_BATTERY) return null
        return Waiting(Hold.THERMAL, Words.of(R.string.wait_heat, celsius, goesOn))
    }

    private fun thermal(settings: PolicySettings, now: Conditions, held: Hold?): Waiting? {
        if (settings.thermalLimit <= 0) return null
        val limit = settings.thermalLimit - if (held == Hold.THERMAL) 1 else 0
        val headroom = now.thermalHeadroom ?: 0f
        if (headroom >= LEAST_HEADROOM - if (held == Hold.THERMAL) HEADROOM_MARGIN else 0f) {
            return Waiting(Hold.THERMAL, Words.of(R.string.wait_warm))
        }
        if (now.thermalStatus < limit) return null
        val name = Words.list(R.array.thermal_status).run { getOrElse(now.thermalStatus) { last() } }
        return Waiting(Hold.THERMAL, Words.of(R.string.wait_hot, name))
    }

    private fun memory(settings: PolicySettings, now: Conditions, held: Hold?, needMb: Long, killed: Boolean): Waiting? {
        // What can never be free is not waited for.
        val careful = killed && needMb + needMb / 4 * 5 / 4 <= now.totalMb
        val spare = maxOf(settings.minimumFreeMb.toLong(), if (careful) needMb / 4 else 0)
        if (spare <= 0) return null
        // Waiting, the run gives back what it had: that alone must not count as memory that has become free.
        val goesOn = spare * 5 / 4 + needMb
        val enough = if (held == Hold.MEMORY) goesOn else spare + needMb
        return when {
            now.freeMb < enough -> Waiting(Hold.MEMORY, Words.of(R.string.wait_memory, now.freeMb, goesOn))
            now.lowMemory -> Waiting(Hold.MEMORY, Words.of(R.string.wait_low_memory))
            else -> null
        }
    }
}

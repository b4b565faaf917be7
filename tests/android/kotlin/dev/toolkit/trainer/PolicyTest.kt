package dev.toolkit.trainer

import dev.toolkit.trainer.policy.Conditions
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.Hours
import dev.toolkit.trainer.policy.Policy
import dev.toolkit.trainer.policy.PolicySettings
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner

/** When a run waits, and how much better things must be before it goes on. */
@RunWith(RobolectricTestRunner::class)
class PolicyTest {
    private val good = Conditions(true, 80, 30f, 0, 2000, 8000, false)
    private val settings = PolicySettings()

    private fun hold(now: Conditions, held: Hold? = null, with: PolicySettings = settings) = Policy.decide(with, now, held)?.hold

    @Test
    fun `good conditions hold nothing`() = assertNull(hold(good))

    @Test
    fun `waits for the charger only if told so`() {
        assertEquals(Hold.CHARGER, hold(good.copy(charging = false)))
        assertNull(hold(good.copy(charging = false), with = settings.copy(onlyWhileCharging = false)))
    }

    @Test
    fun `the battery must rise five points above the limit`() {
        assertEquals(Hold.BATTERY, hold(good.copy(batteryLevel = 19)))
        assertNull(hold(good.copy(batteryLevel = 20)))
        assertEquals(Hold.BATTERY, hold(good.copy(batteryLevel = 24), Hold.BATTERY))
        assertNull(hold(good.copy(batteryLevel = 25), Hold.BATTERY))
        assertNull(hold(good.copy(batteryLevel = 1), with = settings.copy(minimumBattery = 0)))
        assertNull("a phone that does not say", hold(good.copy(batteryLevel = null)))
        assertNull(hold(good.copy(batteryLevel = 100), Hold.BATTERY, settings.copy(minimumBattery = 99)))
    }

    @Test
    fun `the phone must cool down below the limit`() {
        assertEquals(Hold.THERMAL, hold(good.copy(thermalStatus = 2)))
        assertNull(hold(good.copy(thermalStatus = 1)))
        assertEquals(Hold.THERMAL, hold(good.copy(thermalStatus = 1), Hold.THERMAL))
        assertNull(hold(good.copy(thermalStatus = 0), Hold.THERMAL))
        val severe = settings.copy(thermalLimit = PolicySettings.THERMAL_SEVERE)
        assertNull(hold(good.copy(thermalStatus = 2), with = severe))
        assertEquals(Hold.THERMAL, hold(good.copy(thermalStatus = 3), with = severe))
        assertEquals(Hold.THERMAL, hold(good.copy(thermalStatus = 2), Hold.THERMAL, severe))
        assertNull(hold(good.copy(thermalStatus = 5), with = settings.copy(thermalLimit = 0)))
    }

    @Test
    fun `memory must be a quarter above the limit`() {
        assertEquals(Hold.MEMORY, hold(good.copy(freeMb = 299)))
        assertEquals(Hold.MEMORY, hold(good.copy(lowMemory = true)))
        assertNull(hold(good.copy(freeMb = 300)))
        assertEquals(Hold.MEMORY, hold(good.copy(freeMb = 374), Hold.MEMORY))
        assertNull(hold(good.copy(freeMb = 375), Hold.MEMORY))
    }

    @Test
    fun `what the run itself takes does not count as free`() {
        assertEquals(Hold.MEMORY, Policy.decide(settings, good.copy(freeMb = 1150), Hold.MEMORY, needMb = 900)?.hold)
        assertNull(Policy.decide(settings, good.copy(freeMb = 1275), Hold.MEMORY, needMb = 900))
        assertEquals("before it is opened", Hold.MEMORY, Policy.decide(settings, good.copy(freeMb = 1199), null, needMb = 900)?.hold)
        assertNull(Policy.decide(settings, good.copy(freeMb = 1200), null, needMb = 900))
        // Once its engine was ended, also where the settings do not ask for memory: what it takes, and a quarter of that and more to spare.
        val off = settings.copy(minimumFreeMb = 0)
        assertNull(Policy.decide(off, good.copy(freeMb = 0), Hold.MEMORY, needMb = 800))
        assertEquals(Hold.MEMORY, Policy.decide(off, good.copy(freeMb = 1049), Hold.MEMORY, needMb = 800, killed = true)?.hold)
        assertNull(Policy.decide(off, good.copy(freeMb = 1050), Hold.MEMORY, needMb = 800, killed = true))
        assertNull(Policy.decide(off, good.copy(freeMb = 0), Hold.MEMORY, needMb = 800, killed = true, allowed = setOf(Hold.MEMORY)))
        assertNull("which can never be free", Policy.decide(off, good.copy(freeMb = 0, totalMb = 1049), Hold.MEMORY, needMb = 800, killed = true))
    }

    @Test
    fun `a hot battery rests, whatever the thermal status says`() {
        val off = settings.copy(thermalLimit = 0)
        assertEquals(Hold.THERMAL, hold(good.copy(batteryCelsius = 42f), with = off))
        assertNull(hold(good.copy(batteryCelsius = 41.9f)))
        assertEquals(Hold.THERMAL, hold(good.copy(batteryCelsius = 39f), Hold.THERMAL))
        assertNull(hold(good.copy(batteryCelsius = 38.9f), Hold.THERMAL))
        assertNull("a phone that does not say", hold(good.copy(batteryCelsius = null), Hold.THERMAL))
        val words = Policy.decide(settings, good.copy(batteryCelsius = 49f), null)!!.text
        assertEquals("The battery is at 49 °C, goes on below 39 °C", words)
    }

    @Test
    fun `rests before the phone throttles`() {
        assertEquals(Hold.THERMAL, hold(good.copy(thermalHeadroom = 0.95f)))
        assertNull(hold(good.copy(thermalHeadroom = 0.94f)))
        assertEquals(Hold.THERMAL, hold(good.copy(thermalHeadroom = 0.85f), Hold.THERMAL))
        assertNull(hold(good.copy(thermalHeadroom = 0.79f), Hold.THERMAL))
        assertNull(hold(good.copy(thermalHeadroom = 1.2f), with = settings.copy(thermalLimit = 0)))
    }

    @Test
    fun `trains at night only, if told so, over midnight`() {
        val night = settings.copy(hours = Hours(23 * 60, 7 * 60))
        for ((minute, trains) in listOf(0 to true, 419 to true, 420 to false, 720 to false, 1379 to false, 1380 to true)) {
            assertEquals("at $minute", if (trains) null else Hold.HOURS, hold(good.copy(minuteOfDay = minute), with = night))
        }
        assertEquals(Hold.HOURS, hold(good.copy(minuteOfDay = 0), with = settings.copy(hours = Hours(9 * 60, 17 * 60))))
        for (minute in listOf(0, 419, 420, 421, 1439)) {
            assertNull("all day", hold(good.copy(minuteOfDay = minute), with = settings.copy(hours = Hours(420, 420))))
        }
    }

    @Test
    fun `the user may let it train in spite of anything but heat`() {
        val all = Hold.entries.toSet()
        val bad = good.copy(charging = false, batteryLevel = 5, freeMb = 10, minuteOfDay = 720)
        assertNull(Policy.decide(settings.copy(hours = Hours(0, 1)), bad, null, allowed = all))
        assertEquals(Hold.BATTERY, Policy.decide(settings, bad, null, allowed = setOf(Hold.CHARGER))?.hold)
        assertEquals(Hold.THERMAL, Policy.decide(settings, bad.copy(batteryCelsius = 45f), null, allowed = all)?.hold)
    }

    /** Against counting minute by minute. */
    @Test
    fun `the end of a run that trains in some hours only`() {
        for (hours in listOf(Hours(1380, 420), Hours(540, 1020), Hours(0, 1), Hours(1380, 1381))) {
            for (minute in 0 until 1440 step 97) {
                for (work in listOf(1L, 30L, 479L, 480L, 481L, 1000L)) {
                    var done = 0L
                    var counted = 0L
                    while (done < work) {
                        if (hours.include(((minute + counted) % 1440).toInt())) done++
                        counted++
                    }
                    assertEquals("$hours from $minute, $work", counted, hours.until(minute, work))
                }
            }
        }
        assertEquals("always", 77, Hours(60, 60).until(0, 77))
    }

    @Test
    fun `says what it waits for and until when`() {
        assertEquals("Battery at 12 %, goes on at 25 %", Policy.decide(settings, good.copy(batteryLevel = 12), null)?.text)
        assertTrue("severe" in Policy.decide(settings, good.copy(thermalStatus = 3), null)!!.text)
        assertEquals("100 MB of memory free, goes on at 375 MB", Policy.decide(settings, good.copy(freeMb = 100), null)?.text)
        val short = Policy.decide(settings, good.copy(lowMemory = true), null)!!.text
        assertEquals("The phone is short of memory, goes on when it has some to spare", short)
    }
}

package dev.toolkit.trainer

import android.content.Intent
import android.os.PowerManager
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.RestartReceiver
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.MainActivity
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import java.io.File
import java.util.concurrent.CountDownLatch
import kotlin.random.Random

/**
 * Nights with chargers that are pulled, heat and lack of memory, each ended at a random moment. What a kill leaves is the files
 * of that moment; kills in the middle of a write are those of tests/runtime/engine/training/test_kills.py. As many moments
 * as the environment's TOOLKIT_SOAK says, else two.
 */
@RunWith(RobolectricTestRunner::class)
class NightKillsTest : ServiceCase() {
    private val moments = System.getenv("TOOLKIT_SOAK")?.toInt() ?: 2

    /** A night up to the moment: what is seen on the training thread, which stands still meanwhile. */
    private inner class Night(private val last: Int) : () -> Unit {
        val reached = CountDownLatch(1)
        val go = CountDownLatch(1)
        val wrong = ArrayList<String>()

        @Volatile var seen = 0

        /** The step of the last save. */
        @Volatile var saved = 0L
        private var sum = 0

        override fun invoke() {
            if (Thread.currentThread().name != "training" || reached.count == 0L) return
            val run = app.runs.find("night") ?: return
            val active = app.controller.active
            note(run, active?.progress?.step ?: 0)
            val expected = when (active?.doing) {
                Doing.WAITING -> RunState.WAITING
                null -> RunState.COMPLETED
                else -> RunState.RUNNING
            }
            if (run.state != expected) wrong += "${run.state} while ${active?.doing}"
            if (++seen < last && active != null) return
            run.folder.copyRecursively(File(app.folders.runs, "killed"))
            reached.countDown()
            go.await()
        }

        private fun note(run: Run, step: Long) {
            val state = File(run.folder, "state.bin")
            // No CRC: the file ends with its own, and that makes all of them equal.
            val now = if (state.isFile) state.readBytes().contentHashCode() else 0
            if (now != sum) saved = step
            sum = now
        }
    }

    private fun memory(mb: Long) = Fixtures.memory(app, mb)

    private fun heat(status: Int) = shadowOf(app.getSystemService(PowerManager::class.java)).setCurrentThermalStatus(status)

    private fun calm() {
        heat(0)
        memory(7000)
        Fixtures.power(plugged = true, level = 80)
    }

    /** Something of a night happens, some minutes later. */
    private fun happens(chance: Random) {
        when (chance.nextInt(6)) {
            0 -> Fixtures.power(plugged = false, level = 80)
            1 -> Fixtures.power(plugged = true, level = 10)
            2 -> heat(3)
            3 -> memory(200)
            else -> calm()
        }
        // The alarm's look, which a phone that sleeps is woken for.
        RestartReceiver().onReceive(app, Intent(TrainingService.LOOK))
        app.controller.recheck()
        Fixtures.advance(chance.nextLong(1, 20) * 60_000)
    }

    private fun until(night: Night, chance: Random) {
        val end = System.nanoTime() + 120_000_000_000L
        while (night.reached.count > 0) {
            check(System.nanoTime() < end) { "the moment never came: ${night.seen}, ${app.controller.active}" }
            happens(chance)
            Thread.sleep(chance.nextLong(1, 30))
        }
    }

    @Test
    fun `a kill at any moment of a night loses nothing that was saved, and no screen says otherwise`() {
        app.policy.write(app.policy.read().copy(minimumFreeMb = 300))
        val left = HashMap<RunState, Int>()
        for (moment in 1..moments) {
            val chance = Random(moment)
            calm()
            Fixtures.create(app, "night")
            val night = Night(chance.nextInt(1, 30))
            app.controller.addListener(night)
            start(TrainingService.intent(app, TrainingService.START, "night"))
            until(night, chance)
            app.controller.removeListener(night)
            night.go.countDown()
            app.controller.stop()
            assertTrue(app.controller.join(60_000))
            assertEquals("night $moment", emptyList<String>(), night.wrong)
            service!!.destroy()
            app.runs.delete("night")
            val killed = app.runs.require("killed")
            left.merge(killed.state, 1, Int::plus)
            goesOn(moment, killed, night.saved, chance)
            service!!.destroy()
            service = null
            app.runs.delete("killed")
        }
        println("after $moments kills: $left")
    }

    private fun goesOn(moment: Int, killed: Run, saved: Long, chance: Random) {
        val where = "kill $moment at step ${killed.step}, saved $saved, ${killed.state}"
        assertEquals(where, emptyList<String>(), app.runs.damaged())
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        val over = killed.state == RunState.COMPLETED
        await("what the card of $where says") { Pictures.text(screen.get(), if (over) "Completed" else "Interrupted") }
        screen.close()
        val steps = TraceReader(killed.trace).read().steps.size
        calm()
        if (chance.nextBoolean()) {
            // A reboot; what the receiver starts, the system starts.
            while (shadowOf(app).nextStartedService != null) continue
            receive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
            assertEquals(where, if (over) null else TrainingService.CONTINUE, shadowOf(app).nextStartedService?.action)
            start(TrainingService.intent(app, TrainingService.CONTINUE, null))
        } else {
            start(null)
        }
        await("the end of $where") { app.controller.active == null && app.runs.require("killed").state == RunState.COMPLETED }
        val run = app.runs.require("killed")
        assertArrayEquals(where, Fixtures.referenceAdapter(), Fixtures.adapter(run))
        assertEquals(where, (1L..8L).toList(), TraceReader(run.trace).read().steps.map { it.step })
        if (over || saved == 8L) return // what is left to do then is no session of the trace
        val from = Regex("\"resumed_from\":(\\d+)").findAll(run.trace.readText()).lastOrNull()?.groupValues?.get(1)?.toLong() ?: 0
        assertEquals("$where, $steps steps in the trace", saved, from)
    }
}

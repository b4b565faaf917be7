package dev.toolkit.trainer

import android.app.AlarmManager
import android.app.Notification
import android.app.NotificationManager
import android.app.job.JobScheduler
import android.content.ComponentCallbacks2
import android.content.ComponentName
import android.content.ContextWrapper
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.PowerManager
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.policy.Hold
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.NightJob
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.RunText
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowPowerManager
import java.util.Calendar

/** The foreground service: notification, wake lock, policy by the platform's own state, restarts. */
@RunWith(RobolectricTestRunner::class)
class ServiceTest : ServiceCase() {
    @Before
    fun createShort() {
        Fixtures.create(app, "short")
    }

    private fun ongoing(): Notification? = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification(1)

    private fun text(notification: Notification?) = notification?.extras?.getCharSequence(Notification.EXTRA_TEXT).toString()

    private fun wakeLockHeld() = ShadowPowerManager.getLatestWakeLock()?.isHeld == true

    @Test
    fun `trains in the foreground with progress and actions, then leaves`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        val shadow = shadowOf(service!!.get())
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE, service!!.get().foregroundServiceType)
        await("the progress") { "%" in text(ongoing()) }
        val notification = ongoing()!!
        assertEquals(listOf("Pause", "Stop"), notification.actions.map { it.title.toString() })
        assertTrue(notification.flags and Notification.FLAG_ONGOING_EVENT != 0)
        assertTrue(wakeLockHeld())
        shadowOf(notification.actions[0].actionIntent).savedIntent.let { assertEquals(TrainingService.PAUSE, it.action) }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null && shadow.isStoppedBySelf }
        assertTrue(shadow.isForegroundStopped)
        assertFalse(wakeLockHeld())
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("Resume", left.actions.single().title.toString())
    }

    @Test
    fun `a run that the full storage ended says so once and in one language, on its card and in its notification`() {
        val words = "cannot write a/state.bin: No space left on device. Free some storage and resume (the state of step 5 is kept)"
        val run = app.runs.save(app.runs.require("a").copy(state = RunState.FAILED, reason = words))
        val expected = mapOf(
            "en" to "Cannot write a/state.bin: No space left on device (the state of step 5 is kept). Free some space and try again.",
            "de" to "Cannot write a/state.bin: No space left on device (the state of step 5 is kept). Schaffe Platz und versuche es noch einmal.",
        )
        for ((language, reason) in expected) {
            RuntimeEnvironment.setQualifiers(language)
            assertEquals(reason, RunText.reason(app, run))
            Notifications(app).announceEnd(run)
            assertEquals(reason, text(shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)))
        }
        assertEquals("Another reason", RunText.reason(app, run.copy(reason = "another reason")))
    }

    @Test
    fun `a restart by the system continues what went on, and nothing else`() {
        app.runs.save(app.runs.require("short").copy(state = RunState.RUNNING))
        start(null)
        await("the end") { app.controller.active == null }
        val run = app.runs.require("short")
        assertEquals(RunState.COMPLETED, run.state)
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(run))
        start(null)
        assertNull(app.controller.active)
        assertTrue(shadowOf(service!!.get()).isStoppedBySelf)
    }

    @Test
    fun `after a reboot the settings decide`() {
        val boot = Intent(Intent.ACTION_BOOT_COMPLETED)
        receive(app, boot)
        assertNull("nothing went on", shadowOf(app).nextStartedService)
        app.runs.save(app.runs.require("a").copy(state = RunState.WAITING))
        receive(app, Intent("some.other.ACTION"))
        assertNull(shadowOf(app).nextStartedService)
        receive(app, boot)
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
        app.policy.write(app.policy.read().copy(continueAfterRestart = false))
        receive(app, boot)
        assertNull(shadowOf(app).nextStartedService)
    }

    @Test
    fun `without the charger a run waits asleep and goes on by itself`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        waitsAndGoesOn(Hold.CHARGER, "Waiting for the charger", { Fixtures.power(false, 80) }, { Fixtures.power(true, 80) })
    }

    @Test
    fun `a low battery holds a run until it is clearly charged`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        waitsAndGoesOn(
            Hold.BATTERY, "Battery at 15 %",
            { Fixtures.power(true, 15) }, { Fixtures.power(true, 30) }, almost = { Fixtures.power(true, 22) },
        )
    }

    @Test
    fun `a hot phone holds a run until it has cooled down`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        val power = shadowOf(app.getSystemService(PowerManager::class.java))
        waitsAndGoesOn(
            Hold.THERMAL, "The phone is hot (thermal status severe)",
            { power.setCurrentThermalStatus(3) }, { power.setCurrentThermalStatus(0) }, almost = { power.setCurrentThermalStatus(1) },
        )
    }

    @Test
    fun `little memory holds a run until there is clearly more`() {
        memory(2000)
        app.policy.write(PolicySettings(minimumFreeMb = 300))
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        // Of the memory that is free while it waits, the run will take its part again.
        waitsAndGoesOn(Hold.MEMORY, "200 MB of memory free", { memory(200) }, { memory(7000) }, almost = { memory(400) })
    }

    @Test
    fun `closes the engine when the system calls for memory`() {
        memory(2000)
        app.policy.write(PolicySettings(minimumFreeMb = 300))
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        @Suppress("DEPRECATION")
        service!!.get().onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        assertEquals("The phone is short of memory, goes on when it has some to spare", text(ongoing()))
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events
        assertTrue("$events", events.any { it.event == "paused" && it.detail.startsWith("The phone is short of memory") })
    }

    private fun alarms() = shadowOf(app.getSystemService(AlarmManager::class.java))

    private fun alarm() = alarms().peekNextScheduledAlarm()

    @Test
    fun `a phone that sleeps is woken to look whether it may go on`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        assertNull("no alarm while it trains", alarm())
        val power = shadowOf(app.getSystemService(PowerManager::class.java))
        power.setCurrentThermalStatus(3)
        await("the wait") { app.controller.active?.doing == Doing.WAITING && alarm() != null }
        val step = app.controller.active!!.progress!!.step
        assertEquals(AlarmManager.ELAPSED_REALTIME_WAKEUP, alarm()!!.getType())
        assertTrue("in doze as well", alarm()!!.isAllowWhileIdle)
        power.setCurrentThermalStatus(0)
        @Suppress("DEPRECATION")
        val look = alarm()!!.operation!!
        assertTrue("a receiver may say what a service that may not start cannot", look.isBroadcast)
        receive(app, shadowOf(look).savedIntent)
        assertTrue("awake for the look", wakeLockHeld())
        await("more steps") { (app.controller.active?.progress?.step ?: 0) > step }
        await("no alarm any more") { alarm() == null }
    }

    @Test
    fun `a restart that Android forbids leaves a notification to resume from`() {
        app.runs.save(app.runs.require("a").copy(state = RunState.RUNNING))
        val strict = object : ContextWrapper(app) {
            override fun startForegroundService(service: Intent): ComponentName = throw IllegalStateException("not from the background")
        }
        receive(strict, Intent(Intent.ACTION_BOOT_COMPLETED))
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("a was interrupted", left.extras.getCharSequence(Notification.EXTRA_TITLE))
        assertEquals(TrainingService.START, shadowOf(left.actions.single().actionIntent).savedIntent.action)
    }

    @Test
    fun `the alarm of a run whose process was killed brings it back, or says how`() {
        app.runs.save(app.runs.require("a").copy(state = RunState.WAITING))
        val look = Intent(TrainingService.LOOK)
        val strict = object : ContextWrapper(app) {
            override fun startForegroundService(service: Intent): ComponentName = throw IllegalStateException("not from the background")
        }
        receive(strict, look)
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("Resume", left.actions.single().title.toString())
        receive(app, look)
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
    }

    @Test
    fun `a run that waits on is looked at again and again`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.doing == Doing.WAITING && alarm() != null }
        repeat(2) {
            alarms().fireAlarm(alarm()!!)
            assertNull("it goes off once", alarm())
            receive(app, Intent(TrainingService.LOOK))
            assertNotNull("the next one", alarm())
        }
    }

    @Test
    fun `the job does not bring back what a restart of the phone shall end`() {
        app.runs.save(app.runs.require("a").copy(state = RunState.WAITING))
        NightJob.schedule(app)
        app.policy.write(app.policy.read().copy(continueAfterRestart = false))
        receive(app, Intent(Intent.ACTION_BOOT_COMPLETED))
        assertNull(job())
        assertNull(shadowOf(app).nextStartedService)
    }

    private fun job() = app.getSystemService(JobScheduler::class.java)!!.allPendingJobs.singleOrNull()

    @Test
    fun `a job on the charger stands by for as long as a run is going on`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        val job = job()!!
        assertTrue("on the charger, again and again, after a reboot", job.isRequireCharging && job.isPeriodic && job.isPersisted)
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        await("no job any more") { job() == null }

        app.runs.save(app.runs.require("a").copy(state = RunState.RUNNING))
        val night = Robolectric.buildService(NightJob::class.java).create()
        night.get().onStartJob(null)
        Fixtures.settle(app)
        assertEquals(TrainingService.CONTINUE, shadowOf(app).nextStartedService.action)
        night.destroy()
    }

    @Test
    fun `a run does not train on in a process that may not stay`() {
        start(TrainingService.intent(app, TrainingService.START, "a"))
        train()
        // Another start, and by now the system keeps the app in the background.
        service!!.destroy()
        val refused = Robolectric.buildService(TrainingService::class.java).create()
        service = refused
        shadowOf(refused.get()).setThrowInStartForeground(IllegalStateException("not from the background"))
        refused.get().onStartCommand(TrainingService.intent(app, TrainingService.CONTINUE, null), 0, 2)
        await("saved") { app.controller.active == null }
        assertEquals(RunState.PAUSED, app.runs.require("a").state)
        assertTrue(shadowOf(refused.get()).isStoppedBySelf)
        repeat(3) {
            Fixtures.advance(2000)
            app.background.await()
        }
        val left = shadowOf(app.getSystemService(NotificationManager::class.java)).getNotification("a", 2)
        assertEquals("a was interrupted", left.extras.getCharSequence(Notification.EXTRA_TITLE))
    }

    private fun memory(mb: Long) = Fixtures.memory(app, mb)

    private fun waitsAndGoesOn(hold: Hold, words: String, worse: () -> Unit, better: () -> Unit, almost: (() -> Unit)? = null) {
        worse()
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        val step = app.controller.active!!.progress!!.step
        assertEquals(hold, app.controller.active?.waiting?.hold)
        assertEquals(RunState.WAITING, app.runs.require("a").state)
        assertTrue(text(ongoing()), text(ongoing()).startsWith(words))
        assertEquals(R.drawable.ic_waiting, ongoing()!!.smallIcon.resId)
        assertFalse("asleep while it waits", wakeLockHeld())
        if (almost != null) {
            almost()
            app.controller.recheck()
            Thread.sleep(200)
            assertEquals(Doing.WAITING, app.controller.active?.doing)
        }
        better()
        service!!.get().onTrimMemory(0) // makes the policy look at once
        await("more steps") { (app.controller.active?.progress?.step ?: 0) > step }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events
        assertNotNull("$events", events.find { it.event == "paused" && it.detail.startsWith(words) })
        assertNotNull("$events", events.find { it.event == "resumed" && it.detail == Words.of(hold.over) })
    }

    @Test
    fun `waits at once when it is started in bad conditions, and can be paused there`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        assertEquals(RunState.PAUSED, app.runs.require("a").state)

        // The trace was closed all the while; it gets the reasons when the engine opens it.
        Fixtures.power(true, 80)
        send(TrainingService.START, "a")
        train()
        send(TrainingService.PAUSE, "a")
        await("the second pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events.filter { it.event == "paused" }
        assertEquals(listOf("Waiting for the charger", "by the user", "by the user"), events.map { it.detail })
    }

    @Test
    fun `a run that waits has a way out, for itself and until it is paused`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        assertTrue("since now", System.currentTimeMillis() - app.controller.active!!.since in 0..60_000)
        await("the way out") { ongoing()!!.actions.any { it.title.toString() == "Train on battery" } }
        send(TrainingService.GO_ON, "another")
        assertEquals(Doing.WAITING, app.controller.active!!.doing)
        send(TrainingService.GO_ON, "a")
        train()
        await("the time") { (app.controller.active?.progress?.step ?: 0) > 3 }
        val done = app.controller.active!!.doneAt(null, Calendar.getInstance())!!
        assertTrue("100,000 steps take a while", done > System.currentTimeMillis() + 10_000)
        await("the words") { "done about" in text(ongoing()) }
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        send(TrainingService.START, "a")
        await("the next wait") { app.controller.active?.doing == Doing.WAITING }
    }

    @Test
    fun `a charger that is pulled ends the step that is under way`() {
        // One step of this run takes longer than the test may.
        Fixtures.create(app, "slow", Fixtures.reference.copy(steps = 2, gradientAccumulation = 10_000))
        start(TrainingService.intent(app, TrainingService.START, "slow"))
        await("the step") { app.controller.active?.doing == Doing.TRAINING }
        Thread.sleep(300)
        Fixtures.power(false, 80)
        val begin = System.nanoTime()
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        assertTrue("not after the step", System.nanoTime() - begin < 5_000_000_000)
        assertEquals(0, app.controller.active!!.progress!!.step)
        Fixtures.power(true, 80)
        await("the step again") { app.controller.active?.doing == Doing.TRAINING }
        Thread.sleep(300)
        send(TrainingService.STOP, "slow")
        await("the end") { app.controller.active == null }
        val events = TraceReader(app.runs.require("slow").trace).read().events.filter { it.event == "paused" }.map { it.detail }
        assertEquals(listOf("Waiting for the charger", "stopped by the user"), events)
    }

    /** How many sequences a step needs to take so long on this machine. */
    private fun sequences(seconds: Double): Int {
        Fixtures.create(app, "measured", Fixtures.reference.copy(steps = 3, gradientAccumulation = 50))
        app.controller.start("measured")
        await("what a step takes") { app.controller.active == null }
        return (seconds * 50 / TraceReader(app.runs.require("measured").trace).read().secondsPerStep!!).toInt().coerceAtLeast(2)
    }

    @Test
    fun `a step that was dropped once is finished the next time, but for heat`() {
        Fixtures.create(app, "long", Fixtures.reference.copy(steps = 10, gradientAccumulation = sequences(2.0)))
        start(TrainingService.intent(app, TrainingService.START, "long"))
        val step = { app.controller.active?.progress?.step }
        fun interrupt(done: Long, worse: () -> Unit) {
            await("the step") { app.controller.active?.doing == Doing.TRAINING }
            worse()
            await("the wait") { app.controller.active?.doing == Doing.WAITING }
            assertEquals(done, step())
            Fixtures.power(true, 80)
        }
        interrupt(done = 0) { Fixtures.power(false, 80) }
        interrupt(done = 1) { Fixtures.power(false, 80) }
        interrupt(done = 1) { Fixtures.power(false, 80) }
        interrupt(done = 1) { Fixtures.power(true, 80, celsius = 45f) }
        interrupt(done = 2) { Fixtures.power(false, 80) }
    }

    @Test
    fun `a second hold while it waits is in the trace as well`() {
        Fixtures.power(false, 80)
        start(TrainingService.intent(app, TrainingService.START, "a"))
        await("the wait") { app.controller.active?.waiting?.hold == Hold.CHARGER }
        Fixtures.power(true, 10)
        await("the other wait") { app.controller.active?.waiting?.hold == Hold.BATTERY }
        Fixtures.power(true, 80)
        train()
        send(TrainingService.PAUSE, "a")
        await("the pause") { app.controller.active == null }
        val events = TraceReader(app.runs.require("a").trace).read().events.map { it.detail }
        assertEquals("Waiting for the charger", events[0])
        assertEquals("Battery at 10 %, goes on at 25 %", events[1])
        assertEquals(Words.of(Hold.BATTERY.over), events[2])
    }
}
